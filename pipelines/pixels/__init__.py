"""Pictures: arrays of pixels, and the files that they are read from and written to as bytes.

Nothing here knows a row, a model or where a file lies. All are pure functions, with two exceptions that change no
result: `images.decode` keeps the last pictures of the process (256 MB), and `jpeg_blocks` calls a C library that takes
one caller at a time and reads and writes files in the temporary folder alone.
"""
