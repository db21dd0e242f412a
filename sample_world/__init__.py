"""The drawn world that makes everything testable: how its scenes are drawn, its models trained and measured."""
