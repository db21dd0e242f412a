"""How the embedded models are made: one trainer a model, all resumable, all on the sample world."""
