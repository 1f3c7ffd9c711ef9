put() { dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }
printf HELLO | put big 1500000
printf START | put big 0
printf END | put big 2499997
printf PAST | put big 2500000
md5sum big
dd if=big bs=1 skip=1499990 count=30 status=none | od -c
truncate -s 2000000 big
truncate -s 2100000 big
md5sum big
printf tail >> big
printf X | put a.txt 2
cat a.txt
printf HOLE | put zero 5000
md5sum zero
printf Z | put dir/sub/z 100
cp big big2
truncate -s 1048576 big2
printf again | put big2 1048570
truncate -s 10 big2
truncate -s 3000000 big2
md5sum big2
dd if=/dev/zero of=big3 bs=65536 count=20 status=none
printf mid | put big3 700000
dd if=big of=big3 bs=4096 skip=3 seek=7 count=50 conv=notrunc status=none
md5sum big3
dd if=big of=b.txt bs=1M count=1 status=none
tail -c +500001 big | head -c 600000 | md5sum
cmp big big2
truncate -s 90000000 sparse
printf data | put sparse 45000000
md5sum sparse
cp --sparse=always sparse sparse2
stat -c %s sparse2
