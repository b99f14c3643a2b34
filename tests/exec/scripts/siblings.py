import sibling
import namesake
print(sibling.NAME, namesake.HOME)
import namesake.inside
print(namesake.inside.HOME)
