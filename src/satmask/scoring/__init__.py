"""Scores: pixels by class (`pixels`), and objects as the crowdAI challenge counts them (`coco`)."""
