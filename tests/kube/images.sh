#!/bin/sh
# The images for a cluster for tests: the product's own Containerfile on a Debian base, and a pause; into FOLDER as archives.
#   sh tests/kube/images.sh FOLDER
# The base is made once a machine, and what Convoy depends on is fetched once a month, from where pip on this machine finds it.
# The build itself has no network.
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

python="$root/.venv/bin/python"
"$python" -c 'import sys, tomllib; print(*tomllib.load(sys.stdin.buffer)["project"]["dependencies"], sep="\n")' \
	< "$root/pyproject.toml" > "$folder/needs.txt"
wheels=$cache/wheels-$({ date +%Y-%m; "$python" --version; cat "$folder/needs.txt"; } | sha256sum | cut -c1-16)
if ! [ -e "$wheels" ]; then
	find "$cache" -maxdepth 1 -name 'wheels-*' -mtime +40 -exec rm -rf {} +
	"$python" -m pip wheel --quiet --disable-pip-version-check --wheel-dir "$folder/wheels" -r "$folder/needs.txt" hatchling setuptools
	mv -T "$folder/wheels" "$wheels" || [ -e "$wheels" ]  # another did it meanwhile
fi
printf '[global]\nno_index = true\nfind_links = /wheels\n' > "$folder/pip.conf"
podman build --quiet --network none --volume "$wheels:/wheels:ro" --volume "$folder/pip.conf:/etc/pip.conf:ro" \
	--build-arg BASE_IMAGE=localhost/convoy-base:1 --file "$root/deploy/image/Containerfile" \
	--tag localhost/convoy:test "$root" >/dev/null
cp "$(readlink -f /usr/bin/catatonit)" "$folder/pause"
printf 'FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause", "-P"]\n' |
	podman build --quiet --file - --tag localhost/convoy-pause:1 "$folder" >/dev/null
rm -f "$folder"/*.img.tar
podman save --quiet --output "$folder/convoy.img.tar" localhost/convoy:test
podman save --quiet --output "$folder/pause.img.tar" localhost/convoy-pause:1
podman image prune --force >/dev/null
