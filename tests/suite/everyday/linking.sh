ln a.txt hard
stat -c %h a.txt hard
echo more >> hard
cat a.txt
rm a.txt
cat hard
stat -c %h hard
ln hard dir/a
ln hard dir/a
ln big dir/big
truncate -s 10 big
stat -c '%s %h' dir/big
mv dir/big big
ls dir
mv big other
ln dir/x x
sed -i s/of/from/ x
cat dir/x
ln -s dir d
ls d/
cat d/x
ln -s b.txt s
ln -sf zero s
readlink s
ln -s b.txt s
ln -sfn dir/sub d
ls d/
rm d
ln dir dir2
ln -s loop2 loop1
ln -s loop1 loop2
cat loop1
echo x > dangling
cat nowhere
cat link
readlink -f dir/up | sed 's,.*/,,'
ln -P link link2
readlink link2
stat -c %h link link2
cp -L dir/up followed
echo through > dir/up
cat b.txt
ln -s . self
ls self/self/self/dir
ln -s /dev/null out
rm out
touch one
ln one two
ln two three
rm one
mv two dir/two
stat -c %h three dir/two
mv three dir/two
stat -c %h three dir/two
