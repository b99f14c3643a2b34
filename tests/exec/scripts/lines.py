import sys

for number in range(int(sys.argv[1])):
    print("line", number, "äöü€ 𝄞")
