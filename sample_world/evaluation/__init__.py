"""How anything is measured; one file a model or table."""
