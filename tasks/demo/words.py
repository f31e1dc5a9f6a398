"""The lexicon of the micro-world: two worlds of other people, places, things and matters.

Everything is lower case and spelt as one word, so that each word is one piece of the vocabulary;
nouns and adjectives that follow "a" start with a consonant. Colors, numbers, days and all the words
that hold sentences together are the same in both.
"""

import dataclasses

COLORS = tuple("red blue green white black pink".split())
NUMBERS = tuple("two three four five six seven".split())
DAYS = tuple("monday tuesday friday sunday".split())
MOODS = tuple("glad sad tired angry late hungry".split())


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _causes(text: str) -> tuple[tuple[str, str], ...]:
    cause_and_effect = (line.strip().split(" -> ") for line in text.strip().splitlines())
    return tuple((cause, effect) for cause, effect in cause_and_effect)


@dataclasses.dataclass(frozen=True)
class World:
    """Who and what there is.

    Attributes:
      subjects: what opinions are about.
      good, bad: words of praise and of blame.
      causes: what happens and what comes of it; {who} is a person.
    """

    women: tuple[str, ...]
    men: tuple[str, ...]
    places: tuple[str, ...]
    jobs: tuple[str, ...]
    animals: tuple[str, ...]
    foods: tuple[str, ...]
    things: tuple[str, ...]
    subjects: tuple[str, ...]
    good: tuple[str, ...]
    bad: tuple[str, ...]
    causes: tuple[tuple[str, str], ...]
    colors: tuple[str, ...] = COLORS
    numbers: tuple[str, ...] = NUMBERS

    @property
    def people(self) -> tuple[str, ...]:
        """Women and men."""
        return self.women + self.men


TOWN = World(
    women=_words("anna dora emma gina ida kate"),
    men=_words("ben carl finn hugo jack leo"),
    places=_words("mill tower castle farm cabin village market school"),
    jobs=_words("baker farmer doctor teacher painter driver"),
    animals=_words("dog cat goat horse hen cow"),
    foods=_words("soup bread cake rice pie cheese"),
    things=_words("kite ball lamp hat coat book"),
    subjects=_words("film song play meal party show game story"),
    good=_words("good lovely fine nice superb charming wonderful delightful pleasant"),
    bad=_words("bad nasty dull terrible dreadful boring ugly gloomy dirty"),
    causes=_causes("""
        the rain fell all night -> the road was wet
        {who} forgot the key -> the door stayed shut
        {who} broke the window -> the room grew cold
        {who} burned the bread -> the kitchen was full of smoke
        {who} ate too much -> the belly hurt
        {who} slept too long -> the bus was missed
        the dog barked -> the thief ran away
        {who} won the race -> the crowd cheered
        {who} watered the seeds -> the flowers grew
        {who} dropped the vase -> the floor was covered with glass
    """),
)

SEA = World(
    women=_words("alma bella cora della edna fiona"),
    men=_words("abel boris cyril dirk erik felix"),
    places=_words("island reef lagoon harbor beach pier lighthouse cave"),
    jobs=_words("sailor captain pirate diver fisher pilot"),
    animals=_words("parrot seal turtle monkey crab whale"),
    foods=_words("fish rum salt mango shrimp limes"),
    things=_words("boat sail flag net rope barrel"),
    subjects=_words("voyage ship cruise raft storm sunset trip catch"),
    good=_words("great calm grand brilliant mighty steady swift safe bright"),
    bad=_words("poor rotten leaky horrid grim shabby weak clumsy foul"),
    causes=_causes("""
        the wind blew hard -> the waves were high
        {who} cut the line -> the boat drifted off
        {who} tore the sail -> the ship could not move
        the fog came -> nobody saw the coast
        {who} hit the rock -> water filled the hull
        {who} threw the hook -> the basket was full
        {who} read the map -> the treasure was found
        the storm came -> the sailors prayed
        {who} drank rum -> the head was dizzy
        {who} lit the fire -> help came at once
    """),
)

WORLDS = {"town": TOWN, "sea": SEA}
