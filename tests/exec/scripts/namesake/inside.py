HOME = "inside, beside the script"
