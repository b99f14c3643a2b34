import sys
import inside_folder
print("folder", __name__, sys.argv, sys.path[0], inside_folder.X)
