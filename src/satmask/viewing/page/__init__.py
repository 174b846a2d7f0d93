"""The viewer's page: what a person sees and presses; it computes nothing itself."""
