export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_DATE='2001-01-01 00:00:00 +0000' GIT_COMMITTER_DATE='2001-01-01 00:00:00 +0000'
git -c init.defaultBranch=main init -q
git add .
git commit -qm first
git log --format=%H
git status --porcelain
echo more >> a.txt
rm b.txt
git mv dir/x dir/moved
git status --porcelain
git commit -qam second
git log --format=%H
git show --stat | tail -4
git checkout -q -b other HEAD~1
cat a.txt
echo side > side
git add side
git commit -qm side
git checkout -q main
git merge -q other -m merged
git log --format=%H | wc -l
git gc -q
git fsck 2>&1 | grep -v dangling
git clone -q . clone
git -C clone log --format=%H
git stash -q
git diff
rm -rf .git clone/.git
