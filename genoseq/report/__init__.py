"""What a run leaves behind: result.json, evaluation.json, the closing tables and pictures."""
