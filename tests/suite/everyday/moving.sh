mv a.txt renamed
mv dir moved
mv b.txt moved/x
cat moved/x
mv moved/sub .
mkdir t
mv run.sh big t/
mv t/big .
mv "with space" plain
mv empty still-empty
mv link link3
mv -n renamed zero
mv zero renamed
mv caf* ascii
mkdir full empty
touch full/x
mv -T full still-empty
mv -T empty still-empty
mv -T still-empty/x plain
mv moved moved/below
mv sub/y sub/y2
mv sub/y2 sub/y
echo new > new
mv new sub/z
mv sub moved/
mv moved/sub/z .
mkdir -p 1/2/3
mv 1/2/3 .
mv 1 3/
mv 3/1/2 moved/sub
mv t/run.sh t/go.sh
t/go.sh a b
mv nothing nowhere
mv plain/* .
mv dangling dangled
ls -R | sort
