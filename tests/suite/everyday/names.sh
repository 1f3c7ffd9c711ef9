long=$(printf '%0255d' 7)
echo long > "$long"
cat "$long"
mv "$long" "dir/$long"
mkdir "$long"
echo x > "$long/$long"
touch "${long}8" 2>/dev/null || echo too long
odd=$(printf 'a\377b')
echo odd > "$odd"
mkdir "dir/$odd"
mv "$odd" "dir/$odd/"
ln -s "dir/$odd" odd-link
ls odd-link
echo 1 > 'quote"s'
echo 2 > "apo'strophe"
echo 3 > 'back\slash'
echo 4 > ' lead and trail '
echo 5 > -dash
echo 6 > 'dollar$0'
echo 7 > 'a=b'
echo 8 > "$(printf 'new\nline')"
echo 9 > "$(printf 'tab\there\033')"
echo 10 > '...'
echo 11 > '~'
echo 12 > 'c:'
echo 13 > NUL
echo 14 > "$(printf '\360\237\246\200')"
echo 15 > "$(printf 'e\314\201')"
echo 16 > "$(printf '\303\251')"
echo 17 > A.TXT
cat A.TXT a.txt
rm -- -dash
cat ./* 2>/dev/null | sort
here=$(pwd)
i=0
while [ $i -lt 200 ]; do mkdir d$i; cd d$i; echo $i > f; i=$((i+1)); done
cd "$here"
find d0 | wc -l
find d0 -name d199 | wc -c
mv d0 "with space/"
find . -name f | wc -l
cp -r "with space/d0" again
rm -rf "with space/d0/d1"
ls "with space/d0"
