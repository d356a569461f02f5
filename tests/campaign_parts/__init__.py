"""The parts of campaign.py, one kind of trouble each."""
