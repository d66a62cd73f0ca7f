"""Prompts of users, task by task: checked, encoded, and the predictions for them decoded."""
