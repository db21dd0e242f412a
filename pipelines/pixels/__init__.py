"""Pure functions on pixels: arrays in, arrays out; nothing here knows a row, a model or a file's place."""
