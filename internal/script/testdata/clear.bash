text
if [ -d /builds/group/project/.git ]; then
cd /builds/group/project
git rm -rf --ignore-unmatch --quiet .
git clean -ffdx -q
fi
