"""Programs that people and schedulers start: `packshot`, and one short script a job."""
