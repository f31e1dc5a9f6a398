"""The lexicon of the micro-world: who and what there is, and the words for liking it or not.

Everything is lower case and spelt as one word, so that each word is one piece of the vocabulary;
nouns and adjectives that follow "a" start with a consonant.
"""

PEOPLE = tuple(
    """anna ben carl dora emma finn gina hugo ida jack kate leo mia noah olga paul
    rosa sam tina vera walt yara zoe theo""".split()
)
PLACES = tuple(
    """mill tower castle farm cabin harbor village forest market school museum library
    garden bakery station valley""".split()
)
THINGS = tuple("kite ball lamp hat coat boat book drum clock chair cup bag bell scarf".split())
COLORS = tuple("red blue green yellow white black brown pink gray purple".split())
ANIMALS = tuple("dog cat goat horse duck hen sheep cow rabbit parrot".split())
FOODS = tuple("soup bread cake rice fish pie cheese plums pears beans".split())
JOBS = tuple("baker farmer doctor teacher painter singer driver cook nurse judge sailor".split())
DAYS = tuple("monday tuesday wednesday thursday friday saturday sunday".split())
NUMBERS = tuple("two three four five six seven eight nine ten twelve".split())

# What opinions are about.
SUBJECTS = tuple(
    """film song play meal trip party show game story hotel room concert dance picnic
    lesson speech""".split()
)
GOOD = tuple(
    """good great lovely fine nice superb charming wonderful delightful brilliant pleasant
    beautiful splendid perfect clever warm funny bright""".split()
)
BAD = tuple(
    """bad nasty dull poor terrible dreadful horrid boring ugly weak stale clumsy
    shabby gloomy dirty cold silly rude""".split()
)
