#!/usr/bin/env bash
# usage: ./launch.sh VERB [flags]                  runs a verb here (see VERB --help)
#        ./launch.sh test [pytest arguments]       runs the tests; --quick: 2 minutes
#        ./launch.sh --tpu=NAME --zone=Z VERB ...  runs it on every host of a TPU pod
#        ./launch.sh --slurm --nodes=N VERB ...    submits it as a job, one task a node
#        (which reads partition, GPUs, time from SBATCH_*); hosts need a shared folder
#        ./launch.sh --dry-run ...                 prints what would be run, no more
# Relative paths are those of the folder you are in. PYTHON (3.11 or newer) makes .venv.
set -euo pipefail
export LM_CALLER="${LM_CALLER-$PWD}" && cd "$(dirname "${BASH_SOURCE[0]}")"

# A verb is a file of experiments/ that can be run.
verbs="$({ grep -ls __main__ experiments/*.py || true; } | sed 's|.*/||; s|\.py||')"
usage() { sed -n '2,8s/^# //p' launch.sh && echo "verbs:" $verbs; }
die() { echo "launch.sh:" "$@" >&2 && exit 2; }
run() { if [[ $dry ]]; then printf '%q ' "$@" && echo; else "$@"; fi; }

# The section of requirements.txt for this machine's chips, if it has any.
chips() {
  local driver
  if grep -qs 0x1ae0 /sys/bus/pci/devices/*/vendor && # Google's, and bound to a driver
    { compgen -G '/dev/accel*' || compgen -G '/dev/vfio/[0-9]*'; } >/dev/null; then
    echo tpu
  elif driver="$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>&1)"
  then
    ((${driver%%.*} < 580)) && echo cuda12 || echo cuda13
  fi
}

# Makes .venv hold these sections of requirements.txt. The stamp names those it holds and
# is absent while anything changes, so that an install that was cut off starts anew.
setup() {
  local name sum whole missing=() stamp=.venv/done pip=(.venv/bin/python -m pip install)
  sum="$(cksum <requirements.txt)"
  for name in "$@"; do grep -qsxF "$name $sum" $stamp || missing+=("$name"); done
  ((${#missing[@]})) || return 0
  echo "launch.sh: installing ${missing[*]} into .venv (once; minutes)" >&2
  [[ ! $dry ]] || return 0
  [[ -e $stamp ]] || "${PYTHON:-python3}" -m venv --clear .venv
  whole="$(grep -sF " $sum" $stamp || true)" && rm -f $stamp
  "${pip[@]}" -r <(section "${missing[@]}")
  "${pip[@]}" --no-deps -r <(section texts)
  printf '%s\n' "$whole" "${missing[@]/%/ $sum}" >$stamp
}
section() { # Their lines; "#: " hides one from a plain `pip install -r`.
  awk -v s=" $* " '/^## /{on=index(s,$2" ")} on{sub(/^#: /,"");print}' requirements.txt
}

dry='' tpu='' zone='' slurm='' nodes=''
while [[ "${1:-}" == -* ]]; do
  case "$1" in
    --dry-run) dry=1 ;;
    --slurm) slurm=1 ;;
    --tpu=?* | --zone=?* | --nodes=?*) declare "${1#--}" ;;
    -h | --help) usage && exit ;;
    *) die "no flag '$1' before the verb; ./launch.sh --help names those that exist" ;;
  esac && shift
done
(($#)) || { usage && exit; }
grep -qxF -- "$1" <<<"$verbs"$'\n'test || die "no verb '$1'; there are:" $verbs test
[[ ${tpu:+x} == "${zone:+x}" ]] || die "--tpu=NAME and --zone=ZONE go together; add both"
[[ ! $nodes || $slurm ]] || die "--nodes=$nodes is for a job; add --slurm before the verb"
[[ ! $tpu || ! $slurm ]] || die "--tpu and --slurm are two places; leave one out"
mkdir -p .cache runs
if [[ $tpu ]]; then
  vm=(gcloud compute tpus tpu-vm) hosts=(--zone="$zone" --worker=all)
  there='mkdir -p lm && tar xzf lm.tgz -C lm && cd lm && LM_DISTRIBUTED=1 ./launch.sh'
  run tar czf .cache/lm.tgz --exclude=./{.git,.venv,.cache,runs} .
  run "${vm[@]}" scp .cache/lm.tgz "$tpu:lm.tgz" "${hosts[@]}"
  run "${vm[@]}" ssh "$tpu" "${hosts[@]}" --command="$there$(printf ' %q' "$@")"
elif [[ $slurm ]]; then # SIGTERM comes 2 minutes before the end: time to save
  run sbatch --nodes="${nodes:-1}" --ntasks-per-node=1 --job-name="lm-$1" --requeue \
    --signal=TERM@120 --open-mode=append --output=runs/slurm-%j.txt \
    --wrap="srun env LM_DISTRIBUTED=1 ./launch.sh$(printf ' %q' "$@")"
else
  needs=(library $(chips)) program=(-m "experiments.$1")
  [[ $1 != test ]] || needs+=(tests) \
    program=(-m pytest -n auto --maxprocesses=4 --dist=worksteal)
  { flock 9 2>/dev/null || true; setup "${needs[@]}"; } 9>.cache/lock >&2
  # Steps are 1.37x as fast if glibc keeps its pages (convert has none), 1.1x if huge.
  [[ $1 == convert ]] || : "${MALLOC_ARENA_MAX:=1}" "${MALLOC_MMAP_MAX_:=0}" \
    "${MALLOC_TOP_PAD_:=268435456}" "${MALLOC_TRIM_THRESHOLD_:=100000000000}"
  : "${GLIBC_TUNABLES:=glibc.malloc.hugetlb=1}" "${TF_CPP_MIN_LOG_LEVEL:=1}"
  : "${JAX_COMPILATION_CACHE_DIR:=$PWD/.cache/jax}"
  : "${JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS:=0.2}"
  # A process a node drives all its GPUs, not that of its rank as jax would assume.
  : "${JAX_LOCAL_DEVICE_IDS:=$(seq -s, 0 $((${SLURM_GPUS_ON_NODE:-0} - 1)))}"
  export ${!MALLOC_*} ${!JAX_*} GLIBC_TUNABLES TF_CPP_MIN_LOG_LEVEL
  run exec .venv/bin/python "${program[@]}" "${@:2}"
fi
