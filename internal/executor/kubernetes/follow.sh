# Brings script N to a container, once, and follows what it prints.
# Arguments: the container's name, both directories, N, the script's size (-1: it was
# brought before), MODE, and how many bytes of each stream were passed on already.
# Prints frames: "o SIZE" or "e SIZE" and so many bytes; "." while nothing happens;
# "c …", the line of N.code, at the end.
name=$1 scripts=$2 logs=$3 n=$4 size=$5 mode=$6 o=$7 e=$8
exec 4<>"$logs/end.$name" || exit 75
umask 0

if [ "$size" -ge 0 ] && [ ! -e "$logs/$n.out" ]; then
  part=$scripts/$n.$$
  head -c "$size" >"$part"
  if [ "$(wc -c <"$part")" -ne "$size" ]; then
    rm -f "$part"
    exit 75
  fi
  mv -f "$part" "$scripts/$n.sh"
  echo "run $n $mode" >"$scripts/$name"
fi
echo b

length() { stat -c %s "$1" 2>/dev/null || wc -c <"$1"; }

# pass LETTER FD OFFSET: prints what stream LETTER has beyond OFFSET; sets at.
pass() {
  at=$3
  have=$(length "$logs/$n.$4")
  while [ "$have" -gt "$at" ]; do
    k=$((have - at))
    if [ "$k" -ge 65536 ]; then
      [ "$k" -le 4194304 ] || k=4194304
      k=$((k - k % 65536))
      echo "$1 $k"
      dd bs=65536 count=$((k / 65536)) <&"$2" 2>/dev/null
    else
      echo "$1 $k"
      dd bs="$k" count=1 <&"$2" 2>/dev/null
    fi || exit 75
    at=$((at + k))
  done
}

# skip FD OFFSET
skip() {
  dd bs=65536 skip=$(($2 / 65536)) count=0 <&"$1" 2>/dev/null
  [ $(($2 % 65536)) -eq 0 ] || dd bs=$(($2 % 65536)) count=1 <&"$1" >/dev/null 2>&1
}

pause() {
  # Not every shell can wait for the pipe and the clock at once.
  if [ -n "${BASH_VERSION-}" ]; then
    read -r -t 1 _ <&4
  else
    sleep 0.3 2>/dev/null || sleep 1
  fi
}

open= idle=0
while :; do
  over=
  [ ! -e "$logs/$n.code" ] || over=1
  if [ -z "$open" ] && [ -e "$logs/$n.err" ]; then
    exec 5<"$logs/$n.out" 6<"$logs/$n.err"
    open=1
    skip 5 "$o"
    skip 6 "$e"
  fi
  before=$o,$e
  if [ -n "$open" ]; then
    pass o 5 "$o" out
    o=$at
    pass e 6 "$e" err
    e=$at
  fi
  if [ -n "$over" ]; then
    read -r line <"$logs/$n.code"
    echo "c $line"
    exit 0
  fi
  if [ "$before" = "$o,$e" ]; then
    idle=$((idle + 1))
    [ $((idle % 10)) -ne 0 ] || echo .
  else
    idle=0
  fi
  pause
done
