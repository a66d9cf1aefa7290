# Steps of the studies, for a script to read that set $cifar and $out, and $seeds for `pool`. Each is skipped when its result
# is there and goes on when it was interrupted. Environment: ADVKIT and PYTHON, the commands; WORKERS (2), processes.
advkit=${ADVKIT:-advkit} workers=${WORKERS:-2}
images=20000 epochs=6

train() { # NAME OPTIONS...
    name=$1
    shift
    [ -f "$out/$name.safetensors" ] && return
    resume=
    [ -f "$out/$name.resume.safetensors" ] && resume=--resume
    $advkit train -o "$out/$name.safetensors" --data "$cifar#train" --limit $images --epochs $epochs \
        --report "$out/$name.json" $resume "$@"
}
matrix() { # NAME VICTIM=FILE...
    name=$1
    shift
    [ -f "$out/$name.json" ] && return
    $advkit transfer-matrix "R=$out/R.safetensors" "$@" --data "$cifar#test" --limit 1000 --precision float32 \
        --method pgd --method mi,di --method fgsm --workers "$workers" --report "$out/$name.json" --figure "$out/$name.png"
}
pool() { # NAME PAIR
    name=$1 pair=$2
    set --
    for seed in $seeds; do
        set -- "$@" "$out/seed-$seed.json"
    done
    "${PYTHON:-python3}" "$(dirname "$0")/pool.py" "$pair" "$@" > "$out/$name.json"
}
