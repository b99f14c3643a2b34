HOME = "beside the script"
