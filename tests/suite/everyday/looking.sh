find . | sort
find . -type f -printf '%p %s %m %TY-%Tm-%Td\n' | sort
find . -type l -printf '%p %l\n' | sort
find . -type d -printf '%p %m\n' | sort
find . -type f -exec du --apparent-size -b {} + | sort
find . -type f -print0 | sort -z | xargs -0 md5sum
ls -1A
ls -l a.txt big | cut -d' ' -f1,5
grep -rn of dir | sort
grep -c alpha *.txt
wc -lc a.txt b.txt
file -b a.txt 2>/dev/null || true
diff -r dir dir && echo same
diff a.txt b.txt
cd dir/sub
pwd -P | sed 's,.*/,,'
cd ../..
ls ..  > /dev/null
test -e dangling || echo dangling
stat -f -c %T . > /dev/null
test -d link/
ls no
head -c 5 big | od -c
tail -c 5 big | od -c
od -c caf*
cat *.txt dir/* 2>&1 | sort
find . -empty | sort
find . -size +1M
sync -f a.txt
