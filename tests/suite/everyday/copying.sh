cp -r dir copy
cp -a dir archive
cp a.txt a2.txt
cp -p b.txt b2.txt
cp -a link link2
cp link followed
cp big big2
cmp big big2 && echo same
cp big zero
cp a.txt dir/x
cp -p big dir/sub/y
cp zero dir/sub/z
cp -r "with space" "with space too"
cp -a caf* copy/
cp run.sh "with space/"
cp dangling x
cp -a dangling copy/
cp -u a.txt b2.txt
cp --sparse=always big sparse
install -m 755 a.txt installed
cp -rT dir copy
cp -r dir/. empty
cat a2.txt followed dir/x
cp no-such-file y
cp dir y
cp a.txt a.txt
cp -a . ../inside-out 2>/dev/null
rm -rf ../inside-out
