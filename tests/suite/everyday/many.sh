mkdir many
cd many
seq -f file-%05g 10000 | xargs touch
ls | wc -l
seq -f file-%05g 1 2 10000 | xargs rm
ls -f | wc -l
find . -type f | wc -l
cd ..
mv many more
ls more | md5sum
mkdir again
seq 10000 | (cd again; xargs touch)
rm -rf again
ls -d again
rm -rf more/file-0*
ls more | wc -l
mkdir par
seq 300 | xargs -P 4 -I N sh -c 'echo N > par/N.tmp; mv par/N.tmp par/N; cat par/N >> par/all'
sort -n par/all | md5sum
ls par | wc -l
rm par/all
