"""From what a sequencer and a scanner leave behind to the folder that everything else reads."""
