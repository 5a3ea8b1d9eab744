#!/usr/bin/env bash
# A Kubernetes cluster of the tests' own, one node of the real components:
#   cluster.sh start DIR           starts what does not run and prints lines for eval
#   cluster.sh load DIR FILE...    gives the node images, archives of image.sh
#   cluster.sh kill DIR PART       kills one part alone (apiserver, kubelet, ...)
#                                  until start starts it again
#   cluster.sh stop DIR            ends and removes everything
#
# Kubernetes, etcd and helm are the versions of tools/*; containerd, runc and the
# CNI plugins are Debian's, and start installs them when they are missing. All lives
# in a network namespace of its own, below DIR and in control groups of its own, so that
# neither an engine on this machine nor the machine's firewall notice it. A veth pair
# joins the two: the API server, pods and services are reached from this machine at
# their own addresses, and pods reach this machine at GLASSRUNNER_TEST_CLUSTER_HOST,
# and nothing beyond. There is no DNS in the cluster.
# Without the rights that it needs it says so and exits with 3.
set -euo pipefail

usage() {
  echo "usage: $0 start|stop DIR | load DIR FILE... | kill DIR PART" >&2
  exit 2
}
[[ $# -ge 2 ]] || usage
command=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
shift 2
here=$(cd "$(dirname "$0")" && pwd)

# Names of network devices are short: what is left of the directory's name is a sum.
id=$(printf '%x' "$(cksum <<<"$dir" | cut -d' ' -f1)")
space="glk$id"
third=$(((16#$id >> 8) % 256))
fourth=$(((16#$id & 63) * 4))
host="10.214.$third.$((fourth + 1))"
inside="10.214.$third.$((fourth + 2))"
pods="10.215.$third"
services="10.216.$third"
node=node1
socket=$dir/containerd.sock

leave_out() {
  echo "!! no Kubernetes cluster: $1" >&2
  exit 3
}

# install makes sure of what Debian has.
install_packages() {
  local missing=""
  for program in containerd ctr runc ip iptables openssl gcc nsenter; do
    command -v $program >/dev/null || missing+=" $program"
  done
  [[ -x /usr/lib/cni/bridge ]] || missing+=" the CNI plugins"
  [[ -n $missing ]] || return 0
  [[ -z ${NO_INSTALL:-} ]] || leave_out "missing:$missing; NO_INSTALL is set"
  command -v apt-get >/dev/null || leave_out "missing:$missing; there is no apt-get"
  {
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q -o DPkg::Lock::Timeout=300 update
    apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends \
      containerd runc containernetworking-plugins iproute2 iptables openssl gcc libc6-dev util-linux
  } >"$dir/apt.log" 2>&1 </dev/null || {
    cat "$dir/apt.log" >&2
    leave_out "Debian's packages cannot be installed"
  }
}

# tools links the programs of the tools' modules into DIR/bin.
tools() {
  local name path
  mkdir -p "$dir/bin"
  for name in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
    path=$("$here/tool.sh" "$name") || leave_out "$name cannot be built"
    ln -sfn "$path" "$dir/bin/$name"
  done
}

# certificate makes what an authority certifies: certificate NAME SUBJECT [ALTERNATIVE NAMES].
certificate() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$2" -keyout "$dir/pki/$1.key" -out "$dir/pki/$1.csr" &&
    openssl x509 -req -days 30 -in "$dir/pki/$1.csr" -CA "$dir/pki/ca.crt" -CAkey "$dir/pki/ca.key" -CAcreateserial \
      -extfile <(printf 'extendedKeyUsage=serverAuth,clientAuth\n%s' "${3:+subjectAltName=$3}") -out "$dir/pki/$1.crt"
}

certificates() {
  mkdir -p "$dir/pki"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=authority \
    -keyout "$dir/pki/ca.key" -out "$dir/pki/ca.crt" &&
    certificate apiserver /CN=kube-apiserver "IP:$inside,IP:127.0.0.1,IP:$services.1,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc" &&
    certificate admin /O=system:masters/CN=admin &&
    certificate kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client &&
    certificate controller-manager /CN=system:kube-controller-manager &&
    certificate scheduler /CN=system:kube-scheduler &&
    certificate proxy /CN=system:kube-proxy &&
    certificate kubelet "/O=system:nodes/CN=system:node:$node" "IP:$inside,DNS:$node" &&
    openssl genrsa -out "$dir/pki/accounts.key" 2048 &&
    openssl rsa -in "$dir/pki/accounts.key" -pubout -out "$dir/pki/accounts.pub"
}

# kubeconfig writes how a component reaches the API server: kubeconfig NAME.
kubeconfig() {
  cat >"$dir/$1.kubeconfig" <<KUBECONFIG
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://$inside:6443", certificate-authority-data: $(base64 -w0 "$dir/pki/ca.crt")}}]
users: [{name: u, user: {client-certificate-data: $(base64 -w0 "$dir/pki/$1.crt"), client-key-data: $(base64 -w0 "$dir/pki/$1.key")}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
KUBECONFIG
  chmod 600 "$dir/$1.kubeconfig"
}

# control_groups prints this cluster's control group in every hierarchy.
control_groups() {
  local hierarchy
  if [[ -f /sys/fs/cgroup/cgroup.controllers ]]; then
    echo "/sys/fs/cgroup/$space"
    return
  fi
  for hierarchy in /sys/fs/cgroup/*/; do
    [[ -f $hierarchy/cgroup.procs && ! -L ${hierarchy%/} ]] && echo "$hierarchy$space"
  done
  return 0
}

# sysctls are what kubelet sets for the whole machine. The first of several
# clusters remembers what they were, and the last one to stop sets them back.
shared=/run/glassrunner-cluster
sysctls=(vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes)

# others says whether another cluster is there.
others() {
  local mark
  for mark in "$shared"/glk*; do
    [[ $mark != "$shared/$space" && -f $mark && -f $(cat "$mark")/prepared ]] && return 0
  done
  return 1
}

remember() {
  local name
  mkdir -p "$shared"
  if ! others || [[ ! -f $shared/sysctls ]]; then
    for name in "${sysctls[@]}"; do
      [[ ! -r /proc/sys/$name ]] || echo "$name $(cat "/proc/sys/$name")"
    done >"$shared/sysctls"
  fi
  echo "$dir" >"$shared/$space"
}

set_back() {
  local name value
  [[ -f $shared/$space ]] || return 0
  rm -f "$shared/$space"
  others && return 0
  while read -r name value; do
    echo "$value" >"/proc/sys/$name" || true
  done <"$shared/sysctls"
  rm -rf "$shared"
}

# files writes the configuration of everything.
files() {
  local snapshotter=overlayfs name
  mkdir -p "$dir"/{cni,run,log,kubelet,kubelet-pki,pods}
  # An overlay cannot lie on another one.
  [[ $(stat -f -c %T "$dir") != overlayfs ]] || snapshotter=native
  cat >"$dir/containerd.toml" <<TOML
version = 2
root = "$dir/containerd"
state = "$dir/containerd-state"
[grpc]
  address = "$socket"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:3.10"
  disable_apparmor = true
  # A machine may withhold CAP_SYS_RESOURCE from root.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "$snapshotter"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$dir/cni"
TOML
  cat >"$dir/cni/10-bridge.conflist" <<CNI
{"cniVersion": "0.4.0", "name": "$space", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$dir/cni-data", "ranges": [[{"subnet": "$pods.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "firewall"}, {"type": "portmap", "capabilities": {"portMappings": true}}]}
CNI
  # Images cannot be had again, so none is ever collected.
  cat >"$dir/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /$space
containerRuntimeEndpoint: unix://$socket
failSwapOn: false
resolvConf: ""
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: "$dir/pki/ca.crt"}}
authorization: {mode: Webhook}
tlsCertFile: $dir/pki/kubelet.crt
tlsPrivateKeyFile: $dir/pki/kubelet.key
imagePullCredentialsVerificationPolicy: NeverVerify
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 50Mi, nodefs.available: 1%, imagefs.available: 1%}
podLogsDir: $dir/pods
maxPods: 200
YAML
  for name in admin controller-manager scheduler proxy kubelet; do
    kubeconfig $name
  done
  mv "$dir/admin.kubeconfig" "$dir/kubeconfig"
}

# prepare makes what the components need.
prepare() {
  local name group controller
  stop
  mkdir -p "$dir/run" "$dir/log"
  {
    ip netns add "$space" &&
      ip link add "$space" type veth peer name eth0 netns "$space" &&
      ip addr add "$host/30" dev "$space" && ip link set "$space" up &&
      ip -n "$space" addr add "$inside/30" dev eth0 && ip -n "$space" link set eth0 up && ip -n "$space" link set lo up &&
      ip -n "$space" route add default via "$host" &&
      ip route add "$pods.0/24" via "$inside" && ip route add "$services.0/24" via "$inside"
  } || {
    stop
    leave_out "no network namespace can be made here"
  }
  remember
  if [[ -f /sys/fs/cgroup/cgroup.controllers ]]; then
    for controller in cpu cpuset memory pids io hugetlb; do
      echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control || true
    done 2>/dev/null
  fi
  for group in $(control_groups); do
    mkdir -p "$group" || {
      stop
      leave_out "no control group can be made here"
    }
    # The first group of cpusets says what those below it may use.
    for name in cpuset.cpus cpuset.mems; do
      [[ ! -f $group/$name || -f /sys/fs/cgroup/cgroup.controllers ]] || cat "$(dirname "$group")/$name" >"$group/$name"
    done
  done
  certificates >"$dir/log/openssl" 2>&1 || {
    cat "$dir/log/openssl" >&2
    stop
    leave_out "no certificates can be made"
  }
  files
  touch "$dir/prepared"
}

# pid_of prints the process of a part, if it runs.
pid_of() {
  local pid
  [[ -s $dir/run/$1 ]] || return 0
  pid=$(cat "$dir/run/$1")
  if grep -aqs -- "$dir" "/proc/$pid/cmdline"; then echo "$pid"; fi
}

# part starts one component unless it runs: part NAME COMMAND...
part() {
  local name=$1
  shift
  [[ -z $(pid_of "$name") ]] || return 0
  # nsenter and not ip netns exec, which hides the control groups.
  nsenter --net="/var/run/netns/$space" "$@" >>"$dir/log/$name" 2>&1 </dev/null &
  echo $! >"$dir/run/$name"
}

# until_ waits for a command's success: until_ SECONDS PART COMMAND...
until_() {
  local end=$((SECONDS + $1)) name=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    if [[ -z $(pid_of "$name") || $SECONDS -ge $end ]]; then
      tail -n 30 "$dir/log/$name" >&2
      [[ -n ${KEEP:-} ]] || stop
      leave_out "$name did not get ready, see above"
    fi
    sleep 0.1
  done
}

kubectl() { "$dir/bin/kubectl" --kubeconfig "$dir/kubeconfig" "$@"; }
ctr_() { ctr -a "$socket" -n k8s.io "$@"; }

# pause builds the image whose process holds a pod's namespaces.
pause() {
  local module work
  module=$(cd "$here/../tools/kubernetes" && go list -m -f '{{.Dir}}' k8s.io/kubernetes)
  work=$(mktemp -d)
  mkdir "$work/layer" "$work/image"
  gcc -Os -static -DVERSION=v3.10 -o "$work/layer/pause" "$module/build/pause/linux/pause.c"
  tar -C "$work/layer" --owner=0 --group=0 -cf "$work/image/layer.tar" .
  printf '{"architecture":"%s","os":"linux","config":{"Entrypoint":["/pause"],"User":"65535:65535"},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$(go env GOARCH)" "$(sha256sum <"$work/image/layer.tar" | cut -d' ' -f1)" >"$work/image/config.json"
  printf '[{"Config":"config.json","RepoTags":["localhost/pause:3.10"],"Layers":["layer.tar"]}]' >"$work/image/manifest.json"
  tar -C "$work/image" -cf "$dir/pause.tar" .
  rm -rf "$work"
}

start() {
  [[ $(id -u) -eq 0 ]] || leave_out "not root"
  command -v go >/dev/null || leave_out "there is no go"
  install_packages
  [[ -f $dir/prepared && -e /var/run/netns/$space ]] || prepare
  tools
  local pki=$dir/pki
  part containerd containerd --config "$dir/containerd.toml"
  part etcd "$dir/bin/etcd" --data-dir "$dir/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380
  part apiserver "$dir/bin/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --bind-address=0.0.0.0 \
    --advertise-address="$inside" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
    --client-ca-file="$pki/ca.crt" --service-account-key-file="$pki/accounts.pub" --service-account-signing-key-file="$pki/accounts.key" \
    --service-account-issuer=https://kubernetes.default.svc --service-cluster-ip-range="$services.0/24" \
    --authorization-mode=Node,RBAC --allow-privileged=true --enable-admission-plugins=NodeRestriction \
    --kubelet-client-certificate="$pki/kubelet-client.crt" --kubelet-client-key="$pki/kubelet-client.key" \
    --kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP
  until_ 60 containerd ctr_ version
  if [[ ! -f $dir/pause.tar ]]; then
    pause
    load "$dir/pause.tar"
  fi
  until_ 120 apiserver kubectl get --raw /readyz
  part controller-manager "$dir/bin/kube-controller-manager" --kubeconfig "$dir/controller-manager.kubeconfig" --leader-elect=false --secure-port=0 \
    --use-service-account-credentials --service-account-private-key-file="$pki/accounts.key" --root-ca-file="$pki/ca.crt" --allocate-node-cidrs=false
  part scheduler "$dir/bin/kube-scheduler" --kubeconfig "$dir/scheduler.kubeconfig" --leader-elect=false --secure-port=0
  part kubelet "$dir/bin/kubelet" --config "$dir/kubelet.yaml" --kubeconfig "$dir/kubelet.kubeconfig" --hostname-override="$node" \
    --root-dir "$dir/kubelet" --cert-dir "$dir/kubelet-pki" --node-ip="$inside"
  part proxy "$dir/bin/kube-proxy" --kubeconfig "$dir/proxy.kubeconfig" --hostname-override="$node" --proxy-mode=iptables \
    --cluster-cidr="$pods.0/24" --conntrack-max-per-core=0 --conntrack-min=0 \
    --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0
  until_ 120 kubelet kubectl wait --for=condition=Ready "node/$node" --timeout=5s
  until_ 60 controller-manager kubectl get serviceaccount default
  say
}

# say prints what the tests want to know.
say() {
  echo "export GLASSRUNNER_TEST_KUBECONFIG=$dir/kubeconfig"
  echo "export GLASSRUNNER_TEST_CLUSTER=$dir"
  echo "export GLASSRUNNER_TEST_CLUSTER_HOST=$host"
  echo "export GLASSRUNNER_TEST_KUBECTL=$dir/bin/kubectl"
}

load() {
  local file
  for file; do
    ctr_ images import "$file" >>"$dir/log/images" 2>&1 || {
      tail -n 5 "$dir/log/images" >&2
      return 1
    }
  done
}

# end ends a part, and kills it when it takes longer than the seconds given: end NAME SECONDS
end() {
  local pid end
  pid=$(pid_of "$1")
  [[ -n $pid ]] || return 0
  kill "$pid" 2>/dev/null || true
  end=$((SECONDS + $2))
  while kill -0 "$pid" 2>/dev/null && [[ $SECONDS -lt $end ]]; do sleep 0.1; done
  kill -9 "$pid" 2>/dev/null || true
  rm -f "$dir/run/$1"
}

crash() {
  local pid
  pid=$(pid_of "$1")
  if [[ -z $pid ]]; then
    echo "no $1 runs in $dir" >&2
    exit 1
  fi
  kill -9 "$pid"
  for _ in $(seq 100); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  rm -f "$dir/run/$1"
}

stop() {
  local pid name group space_
  # The pods' network namespaces are named after nothing of ours: the containers' own files know them.
  grep -oh '/var/run/netns/cni-[a-z0-9-]*' "$dir"/containerd-state/io.containerd.runtime.v2.task/k8s.io/*/config.json 2>/dev/null |
    sort -u >"$dir/spaces" || true
  cat "$dir"/containerd-state/io.containerd.runtime.v2.task/k8s.io/*/address 2>/dev/null |
    sed 's|unix://|\n|g' >"$dir/sockets" || true
  # Nothing of it is kept, so no part is given time; the API server would wait for open watches.
  for name in kubelet proxy scheduler controller-manager apiserver etcd; do
    end $name 0
  done
  end containerd 3
  # Shims outlive containerd, and containers their shims.
  grep -als -- "$dir/containerd[.]sock" /proc/[0-9]*/cmdline | cut -d/ -f3 | while read -r pid; do
    [[ $(cat "/proc/$pid/comm" 2>/dev/null) == containerd-shim ]] || continue
    {
      xargs -r kill -9 <"/proc/$pid/task/$pid/children"
      kill -9 "$pid"
    } 2>/dev/null || true
  done || true
  for group in $(control_groups); do
    [[ -d $group ]] || continue
    find "$group" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u | xargs -r kill -9 2>/dev/null || true
    for _ in $(seq 20); do
      find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && break
      sleep 0.1
    done
  done
  while read -r name; do
    [[ -z $name ]] || rm -f "$name"
  done <"$dir/sockets"
  while read -r space_; do
    ip netns del "${space_##*/}" 2>/dev/null || true
  done <"$dir/spaces"
  if [[ -e /var/run/netns/$space ]]; then
    ip netns del "$space" || true
  fi
  ip link del "$space" 2>/dev/null || true
  grep -oE " $dir/[^ ]*" /proc/mounts | sort -r | xargs -r umount -l || true
  set_back
  # What the plugins and kubelet leave at places of their own.
  for name in /var/lib/cni/results/"$space"-*; do
    [[ -e $name ]] || continue
    name=${name##*/"$space"-}
    rm -f "/var/lib/cni/results/$space-$name" "/var/lib/cni/results/cni-loopback-${name%-*}-lo"
  done
  find /var/log/containers -lname "$dir/*" -delete 2>/dev/null || true
  rmdir /var/log/containers 2>/dev/null || true
  rm -rf --one-file-system "${dir:?}"/{bin,cni,cni-data,containerd,containerd-state,containerd.sock,containerd.sock.ttrpc,containerd.toml,etcd,kubelet,kubelet-pki,kubelet.yaml,pki,pods,prepared,run,sockets,spaces,pause.tar} "$dir"/*kubeconfig
}

case $command in
  start) start ;;
  load) load "$@" ;;
  kill) crash "${1:?which part?}" ;;
  stop) stop ;;
  *) usage ;;
esac
