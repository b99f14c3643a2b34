"""Which libraries survive a fork: each tried in a real zygote, used by three workers at once."""
