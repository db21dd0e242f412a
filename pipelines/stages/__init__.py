"""One step a file: plain classes that turn rows into updates; no ray."""
