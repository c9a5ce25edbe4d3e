#!/bin/sh
# The binaries of a real Kubernetes, built once a machine from Debian's own source package; prints their folder.
# They lie under the hash of this recipe in ~/.cache/convoy-kube. Needs root on Debian 12 or 13, 1.5 GB of scratch, 6 to 14
# minutes; it gives way to everything else that runs.
set -eu
cache=${CONVOY_KUBE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/convoy-kube}
bin=$cache/$(sha256sum "$0" | cut -c1-16)
if [ -e "$bin/kubelet" ]; then echo "$bin"; exit 0; fi
mkdir -p "$cache"
exec 9> "$cache/.lock"
flock 9
if [ -e "$bin/kubelet" ]; then echo "$bin"; exit 0; fi

export DEBIAN_FRONTEND=noninteractive
exec 3>&1 > "$cache/build.log" 2>&1
apt-get update -qq
apt-get install -y -qq --no-install-recommends rsync jq dpkg-dev gcc make

# Debian 12's suite of the mirror that this machine is set up with, in a view of apt's of its own: the sources and the Go
# that builds them, unpacked beside them. The same on whichever Debian this is.
scratch=$cache/.build
rm -rf "$scratch"
mkdir -p "$scratch/apt/etc/apt" "$scratch/apt/var/lib/apt/lists/partial" "$scratch/apt/var/cache/apt/archives/partial"
cp -r /etc/apt/. "$scratch/apt/etc/apt/"
here=$(. /etc/os-release; echo "$VERSION_CODENAME")
find "$scratch/apt/etc/apt" -name '*.sources' -exec sed -i "s/^Types:.*/Types: deb deb-src/; s/\b$here\b/bookworm/g" {} +
find "$scratch/apt/etc/apt" -name '*.list' -exec sed -i "s/\b$here\b/bookworm/g; s/^deb \(.*\)/deb \1\ndeb-src \1/" {} +
cd "$scratch"
view="-o Dir=$scratch/apt -o Dir::State::status=/dev/null"
# shellcheck disable=SC2086  # two options, on purpose
apt-get $view update -qq || [ -n "$(ls "$scratch/apt/var/lib/apt/lists")" ]  # a list of somebody else's may not be there
# shellcheck disable=SC2086
apt-get $view download -qq golang-1.19-go golang-1.19-src golang-github-modern-go-reflect2-dev
for one in *.deb; do dpkg-deb --extract "$one" go; done
# shellcheck disable=SC2086
apt-get $view source -qq --download-only kubernetes
dpkg-source -x kubernetes_*.dsc tree
cd tree
# The vendored reflect2 crashes the API server after minutes with Go 1.18 and newer; Debian's own does not.
rm -rf vendor/github.com/modern-go/reflect2
cp -rL "$scratch/go/usr/share/gocode/src/github.com/modern-go/reflect2" vendor/github.com/modern-go/
# In 1.20 a pod whose containers have ended may stay for a minute: its kubelet waits until the pod's sandbox is removed,
# which may be left to a cleaner, and looks again every 10 s alone (kubernetes/kubernetes#97288; since 1.22 none waits).
kubelet=pkg/kubelet
grep -q "pod's sandboxes should be deleted" $kubelet/kubelet_pods.go
sed -i "/pod's sandboxes should be deleted/,/^\t}/d" $kubelet/kubelet_pods.go
grep -q '^const syncPeriod = 10 ' $kubelet/status/status_manager.go
sed -i 's/^const syncPeriod = 10 /const syncPeriod = 1 /' $kubelet/status/status_manager.go

export GOROOT="$scratch/go/usr/lib/go-1.19"
export GOPATH="$PWD/.go" PATH="$scratch/go/usr/lib/go-1.19/bin:$PATH" CGO_ENABLED=0 GOFLAGS= GOCACHE="$scratch/gocache" HOME="$scratch"
mkdir -p .go/src/k8s.io
ln -s ../../.. .go/src/k8s.io/kubernetes
nice -n 19 make WHAT="cmd/kube-apiserver cmd/kube-controller-manager cmd/kube-scheduler cmd/kubelet cmd/kube-proxy cmd/kubectl"

made=$(dirname "$(find _output -type f -name kube-apiserver | head -n 1)")
mkdir -p "$bin.new"
for one in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubectl kubelet; do
	install -m 755 "$made/$one" "$bin.new/$one"
done
rm -rf "$bin"
mv "$bin.new" "$bin"
cd /
chmod -R u+w "$scratch"
rm -rf "$scratch"
echo "$bin" >&3
