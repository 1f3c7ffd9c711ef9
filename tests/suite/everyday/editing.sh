sed -i s/alpha/ALPHA/ a.txt
sed -i.bak '$d' b.txt
sed -i 's/of/from/' dir/sub/*
echo more >> b.txt
sort -o b.txt b.txt
tr a-z A-Z < a.txt > upper
cat a.txt a.txt > twice
cat < zero > zero
cat b.txt >> a.txt
echo one > dir/x
echo two > dir/x
: > dir/sub/y
truncate -s 2 dir/sub/z
truncate -s 100000 upper
truncate -s -5 twice
truncate -s +7 twice
truncate -s 0 link
set -C
echo no > b.txt
set +C
echo yes >| b.txt
printf 'a\nb\nc\n' | tee t1 t2 | wc -l
tee -a t1 < b.txt
exec 3<>t2
read line <&3
echo "$line"
echo X >&3
exec 3>&-
cat t2
grep -c . a.txt > count
cat count
echo into > dir
echo into > no/such
cat dir
cat no/such
printf 'text' > "with space/new"
tac b.txt > r && mv r b.txt
awk '{ print $1 > "part" NR }' a.txt
split -b 700000 big piece.
cat piece.* | cmp - big && echo same
./run.sh 1 2 3
sed -i 's/echo/printf "%s\\n" now/' run.sh
./run.sh
uniq -c twice
comm t1 t2
yes line | head -n 20000 > lines
md5sum lines big
