rm a.txt
rm link
rmdir empty
rmdir dir
rm dir
rm -f nothing
rm nothing
rm -r dir/sub
ls dir
rm -rf dir
ls dir
mkdir dir
ls -a dir
echo new > dir/x
rm -r "with space" caf*
mkdir "with space"
echo a > a.txt
cat a.txt
rm a.txt
mkdir a.txt
mkdir -p deep/er/est
rmdir -p deep/er/est
mkdir -p p/q
mkdir p/q
mkdir -p p/q
touch p/q/f
rm -rf p
rm big
echo small > big
rm dangling
ln -s b.txt dangling
rm run.sh zero
mkdir zero
rmdir zero
echo back > zero
find . -name '*.txt' -delete
ls -R | sort
