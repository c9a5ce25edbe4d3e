#!/bin/sh
# A node of the cluster for tests: private mounts, containerd with the images given, kube-proxy, kubelet.
set -eu
mount --make-rprivate /
mkdir -p /var/lib/kubelet /run/containerd /var/log/pods /var/log/containers
mount --bind "$HOME_OF_NODE/varlib" /var/lib/kubelet
for one in /var/log/pods /var/log/containers /run/containerd /run/netns; do mount -t tmpfs tmpfs "$one"; done
containerd -c "$HOME_OF_NODE/containerd.toml" &
socket=$HOME_OF_NODE/containerd.sock
until ctr -a "$socket" version >/dev/null 2>&1; do sleep 0.1; done
for image in "$@"; do ctr -a "$socket" -n k8s.io images import "$image"; done
"$BIN/kube-proxy" --kubeconfig "$STATE/proxy.conf" --hostname-override "$NODE" --proxy-mode iptables \
	--conntrack-max-per-core 0 --oom-score-adj 0 &
exec "$BIN/kubelet" --config "$HOME_OF_NODE/kubelet.yaml" --kubeconfig "$STATE/$NODE.conf" \
	--container-runtime remote --container-runtime-endpoint "unix://$socket" --root-dir "$HOME_OF_NODE/kubelet" \
	--hostname-override "$NODE" --node-ip "$IP" --network-plugin cni --cni-conf-dir "$HOME_OF_NODE/cni" \
	--cni-bin-dir /usr/lib/cni --volume-plugin-dir "$HOME_OF_NODE/plugins"
