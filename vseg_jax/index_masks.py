"""The values of index masks: 0 is background, 1 to 254 are object ids, 255 is void."""

VOID = 255  # pixels of which nothing is known: never trained on, never scored as an object
