#!/bin/sh
# The images for a cluster for tests: the product's own Containerfile on a Debian base, and a pause; into FOLDER as archives.
#   sh tests/kube/images.sh FOLDER
# The base is made once a machine. Packages come from where pip on this machine finds them; the build itself has no network.
set -eu
folder=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
cache=${CONVOY_KUBE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/convoy-kube}
mkdir -p "$folder" "$cache"
missing=
for one in podman runc catatonit mmdebstrap; do
	dpkg -s "$one" >/dev/null 2>&1 || missing="$missing $one"
done
# shellcheck disable=SC2086  # one word a package
[ -z "$missing" ] || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null

cat > "$folder/containers.conf" <<END
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
[engine]
runtime = "runc"
END
export CONTAINERS_CONF="$folder/containers.conf"

if ! podman image exists localhost/convoy-base:1; then
	[ -e "$cache/base.tar" ] || {
		mmdebstrap --quiet --variant=minbase --include=ca-certificates,python3,python3-venv bookworm "$cache/base.part.tar"
		mv "$cache/base.part.tar" "$cache/base.tar"
	}
	podman import --quiet "$cache/base.tar" localhost/convoy-base:1 >/dev/null
fi

"$root/.venv/bin/python" -m pip wheel --quiet --disable-pip-version-check --wheel-dir "$folder/wheels" "$root" hatchling setuptools
printf '[global]\nno_index = true\nfind_links = /wheels\n' > "$folder/pip.conf"
podman build --quiet --network none --volume "$folder/wheels:/wheels:ro" --volume "$folder/pip.conf:/etc/pip.conf:ro" \
	--build-arg BASE_IMAGE=localhost/convoy-base:1 --file "$root/deploy/image/Containerfile" \
	--tag localhost/convoy:test "$root" >/dev/null
cp "$(readlink -f /usr/bin/catatonit)" "$folder/pause"
printf 'FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause", "-P"]\n' |
	podman build --quiet --file - --tag localhost/convoy-pause:1 "$folder" >/dev/null
rm -f "$folder"/*.img.tar
podman save --quiet --output "$folder/convoy.img.tar" localhost/convoy:test
podman save --quiet --output "$folder/pause.img.tar" localhost/convoy-pause:1
podman image prune --force >/dev/null
