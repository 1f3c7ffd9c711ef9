rsync -a big dir "with space" link dangling empty copy/
rsync -a --checksum --itemize-changes big dir copy/
ls -R copy
echo more >> copy/dir/x
rm copy/dir/sub/y
echo extra > copy/dir/extra
ln -s x copy/dir/another
rsync -a --delete --itemize-changes --omit-dir-times dir copy/ | sort
ls -R copy
printf CHANGED | dd of=big bs=1 seek=1234567 conv=notrunc 2>/dev/null
touch -d @1500000000 big
ln copy/big copy/second
rsync -a --inplace --no-whole-file --itemize-changes big copy/
cmp big copy/big && cmp big copy/second && stat -c '%h %s %Y' copy/big
truncate -s 300000 big
touch -d @1500000001 big
rsync -a --inplace --no-whole-file --itemize-changes big copy/
cmp big copy/big && stat -c '%h %s %Y' copy/second
rsync -a --sparse --itemize-changes a.txt copy/
rsync -a --remove-source-files --itemize-changes a.txt moved/
ls a.txt moved
rsync -a --delete --itemize-changes --omit-dir-times empty/ copy/ | sort
ls -A copy
