"""What the makers of the shipped models' labels share: drafts, small edits, planted dirt."""
