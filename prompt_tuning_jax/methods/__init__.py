"""Parameter-efficient methods, a file each; gin imports them by module path."""
