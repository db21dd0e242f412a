"""One night over a catalogue: plan what is to do, run it, verify what came of it, publish all of it or nothing."""
