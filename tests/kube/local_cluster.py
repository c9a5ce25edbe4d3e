"""A real Kubernetes on one machine, for tests: a control plane, and nodes in namespaces of their own.

    python tests/kube/local_cluster.py up STATE IMAGE.tar…   prints the kubeconfig; twice is once
    python tests/kube/local_cluster.py down STATE            leaves no process, mount, network or cgroup

Needs root on Debian 12; installs what PACKAGES lists. Everything is under the folder STATE.
"""

import base64
import contextlib
import datetime as dt
import ipaddress
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HERE = Path(__file__).parent
NODES = 2
BRIDGE, NET, CONTROL, HOST = "cvkbr", "10.213.0", "10.213.0.1", "10.213.0.254"
PODS, SERVICES = "10.217", "10.218.0.0/16"
CGROUPS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd")
PACKAGES = ("containerd", "containernetworking-plugins", "runc", "conntrack", "iptables", "etcd-server", "iproute2")
READY_S = 120.0
ROOM = 12 << 30  # bytes of free memory with which the cluster's files lie in half of it, and not on the disk


def address(node):
    return f"{NET}.{10 + node}"


def run(*words, **more):
    """Run a command; what it says is only of interest when it fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, **more)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def until(what, probe):
    """Return once `probe()` is true; a foreign program that has no other way to say that it is ready is asked again."""
    deadline = time.monotonic() + READY_S
    while not probe():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} is not ready after {READY_S:.0f} s")
        time.sleep(0.1)


# Keys and certificates -----------------------------------------------------------------------------------------------


def name(common, org=""):
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, org)] if org else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def certified(pki, file, common, org="", hosts=(), signer=None):
    """Write FILE.key and FILE.crt, signed by `signer` or by itself; return the pair."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    issuer = signer[1].subject if signer else name(common, org)
    build = (
        x509.CertificateBuilder()
        .subject_name(name(common, org))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=7))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
    )
    if signer:
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        build = build.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if hosts:
        names = [
            x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host) for host in hosts
        ]
        build = build.add_extension(x509.SubjectAlternativeName(names), critical=False)
    cert = build.sign(signer[0] if signer else key, hashes.SHA256())
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (pki / f"{file}.key").write_bytes(pem)
    (pki / f"{file}.crt").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    return key, cert


def make_pki(state):
    """Write every certificate and kubeconfig that the cluster needs."""
    pki = state / "pki"
    pki.mkdir()
    ca = certified(pki, "ca", "convoy-tests")
    inside = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    certified(pki, "apiserver", "kube-apiserver", hosts=(*inside, "127.0.0.1", CONTROL, "10.218.0.1"), signer=ca)
    certified(pki, "kubelet-client", "apiserver-kubelet-client", "system:masters", signer=ca)
    users = {"admin": ("admin", "system:masters"), "manager": ("system:kube-controller-manager", "")}
    users |= {"scheduler": ("system:kube-scheduler", ""), "proxy": ("system:kube-proxy", "")}
    users |= {f"n{node}": (f"system:node:n{node}", "system:nodes") for node in range(1, NODES + 1)}
    for user, (common, org) in users.items():
        node = int(user[1:]) if user[1:].isdigit() else 0
        certified(pki, user, common, org, hosts=(user, address(node)) if node else (), signer=ca)
        write_config(state, user)
    key = ec.generate_private_key(ec.SECP256R1())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (pki / "sa.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, plain))
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    (pki / "sa.pub").write_bytes(key.public_key().public_bytes(pem, info))


def write_config(state, user):
    def pem(file):
        return base64.b64encode((state / "pki" / file).read_bytes()).decode()

    cluster = {"server": f"https://{CONTROL}:6443", "certificate-authority-data": pem("ca.crt")}
    who = {"client-certificate-data": pem(f"{user}.crt"), "client-key-data": pem(f"{user}.key")}
    said = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": cluster}],
        "users": [{"name": user, "user": who}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": user}}],
        "current-context": "local",
    }
    (state / f"{user}.conf").write_text(yaml.safe_dump(said))


# Networks ------------------------------------------------------------------------------------------------------------


def make_networks():
    """A bridge, a network namespace for the control plane and one for each node, and routes to the nodes' pods."""
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "addr", "add", f"{HOST}/24", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    nodes = range(1, NODES + 1)
    for space, its in (("cvk0", CONTROL), *((f"cvk{node}", address(node)) for node in nodes)):
        run("ip", "netns", "add", space)
        run("ip", "link", "add", f"v{space}", "type", "veth", "peer", "name", "eth0", "netns", space)
        run("ip", "link", "set", f"v{space}", "master", BRIDGE, "up")
        for words in (
            ("link", "set", "lo", "up"),
            ("addr", "add", f"{its}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
        ):
            run("ip", "-n", space, *words)
        run("nsenter", f"--net=/run/netns/{space}", "sysctl", "-qw", "net.ipv4.ip_forward=1")
    for node in nodes:
        pods = (f"{PODS}.{node}.0/24", "via", address(node))
        run("ip", "route", "add", *pods)
        run("ip", "-n", "cvk0", "route", "add", *pods)
        run("ip", "-n", f"cvk{node}", "route", "add", "default", "via", HOST)
        for other in nodes:
            if other != node:
                run("ip", "-n", f"cvk{other}", "route", "add", *pods)


# Processes -----------------------------------------------------------------------------------------------------------


def start(state, what, space, *words, **env):
    """Start a process in a network namespace, and remember its number."""
    with (state / "log" / f"{what}.log").open("ab") as log:
        inside = ["nsenter", f"--net=/run/netns/{space}"] if space else []
        process = subprocess.Popen(
            [*inside, *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ | env,
        )
    process.returncode = 0  # given away
    (state / "pids" / what).write_text(f"{process.pid}\n")


def start_control(state, binaries):
    """Start etcd, the API server, the controllers and the scheduler."""
    pki, config = state / "pki", lambda user: state / f"{user}.conf"
    where = "http://127.0.0.1:2379"
    start(state, "etcd", "cvk0", "etcd", "--data-dir", state / "etcd",
          "--listen-client-urls", where, "--advertise-client-urls", where, "--listen-peer-urls", "http://127.0.0.1:2380",
          "--unsafe-no-fsync")  # fmt: skip
    issuer = "https://kubernetes.default.svc"
    start(state, "apiserver", "cvk0", binaries / "kube-apiserver", "--etcd-servers", where, "--secure-port", "6443",
          "--bind-address", CONTROL, "--advertise-address", CONTROL, "--allow-privileged",
          "--tls-cert-file", pki / "apiserver.crt", "--tls-private-key-file", pki / "apiserver.key",
          "--client-ca-file", pki / "ca.crt", "--kubelet-preferred-address-types", "InternalIP",
          "--kubelet-client-certificate", pki / "kubelet-client.crt",
          "--kubelet-client-key", pki / "kubelet-client.key",
          "--kubelet-certificate-authority", pki / "ca.crt", "--service-account-key-file", pki / "sa.pub",
          "--service-account-signing-key-file", pki / "sa.key", "--service-account-issuer", issuer,
          "--api-audiences", issuer, "--authorization-mode", "Node,RBAC", "--service-cluster-ip-range", SERVICES,
          "--enable-admission-plugins", "NodeRestriction")  # fmt: skip
    until("the API server", lambda: ask(state, "/readyz"))
    start(state, "manager", "cvk0", binaries / "kube-controller-manager", "--kubeconfig", config("manager"),
          "--service-account-private-key-file", pki / "sa.key", "--root-ca-file", pki / "ca.crt",
          "--use-service-account-credentials", "--leader-elect=false", "--allocate-node-cidrs=false",
          "--node-monitor-grace-period", "20s", "--pod-eviction-timeout", "10s")  # fmt: skip
    start(state, "scheduler", "cvk0", binaries / "kube-scheduler", "--kubeconfig", config("scheduler"),
          "--leader-elect=false")  # fmt: skip


def start_node(state, binaries, node, images):
    """Start a node: its own network, mounts and processes, which all end with the first of them."""
    home = state / f"n{node}"
    for folder in ("cni", "manifests", "varlib"):
        (home / folder).mkdir(parents=True)
    (home / "containerd.toml").write_text((HERE / "containerd.toml").read_text().replace("@HOME@", str(home)))
    ipam = {"type": "host-local", "dataDir": str(home / "ipam"), "ranges": [[{"subnet": f"{PODS}.{node}.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}  # fmt: skip
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": False, "hairpinMode": True, "ipam": ipam}
    plugins = {"cniVersion": "0.4.0", "name": "k8s", "plugins": [bridge]}
    (home / "cni" / "10.conflist").write_text(json.dumps(plugins))
    (home / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    pki = state / "pki"
    kubelet = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True},
                           "x509": {"clientCAFile": str(pki / "ca.crt")}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / f"n{node}.crt"),
        "tlsPrivateKeyFile": str(pki / f"n{node}.key"),
        "clusterDNS": [HOST],
        "clusterDomain": "cluster.local",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/cvk{node}",
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "resolvConf": str(home / "resolv.conf"),
        "staticPodPath": str(home / "manifests"),
        "oomScoreAdj": 0,
        "nodeStatusUpdateFrequency": "4s",
        "kubeAPIQPS": 50, "kubeAPIBurst": 100,  # as by default since 1.27; with 5, new pods wait for each other
    }  # fmt: skip
    (home / "kubelet.yaml").write_text(yaml.safe_dump(kubelet))
    for group in CGROUPS:
        Path(f"/sys/fs/cgroup/{group}/cvk{node}").mkdir(parents=True, exist_ok=True)
    for what in ("cpuset.cpus", "cpuset.mems"):
        Path(f"/sys/fs/cgroup/cpuset/cvk{node}/{what}").write_text(Path(f"/sys/fs/cgroup/cpuset/{what}").read_text())
    # Without the last of these, a kubelet on a cloud's machine looks for Amazon's keys for some 10 s before it starts.
    start(state, f"node{node}", f"cvk{node}", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
          "sh", HERE / "node.sh", *map(str, images),
          NODE=f"n{node}", HOME_OF_NODE=str(home), STATE=str(state), BIN=str(binaries), IP=address(node),
          AWS_EC2_METADATA_DISABLED="true")  # fmt: skip


def ask(state, path):
    """Return what the API server answers, or nothing while it does not."""
    context = ssl.create_default_context(cafile=state / "pki" / "ca.crt")
    context.load_cert_chain(state / "pki" / "admin.crt", state / "pki" / "admin.key")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(f"https://{CONTROL}:6443{path}", timeout=5) as answer:
            return answer.read()
    except OSError:
        return b""


def ready_nodes(state):
    nodes = json.loads(ask(state, "/api/v1/nodes") or b'{"items": []}')["items"]
    conditions = [one for node in nodes for one in node["status"].get("conditions", [])]
    return sum(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def up(state, images):
    """Bring the cluster up unless it is; print its kubeconfig."""
    if (state / "admin.conf").exists() and ready_nodes(state) == NODES:
        print(state / "admin.conf")
        return
    missing = [
        one for one in PACKAGES if subprocess.run(["dpkg", "-s", one], capture_output=True, check=False).returncode
    ]
    if missing:
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing,
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})  # fmt: skip
    binaries = Path(run("sh", str(HERE / "binaries.sh")).strip())
    if inhabited() and not (state / "admin.conf").exists():
        raise SystemExit(f"another cluster is up: python {sys.argv[0]} down STATE removes it")
    down(state)  # and what a cluster left here whose processes were all killed
    try:
        make(state, binaries, images)
    except BaseException:
        last_words(state)
        down(state)
        raise
    print(state / "admin.conf")


def make(state, binaries, images):
    """Make everything, in order, each waited for."""
    state.mkdir(parents=True, exist_ok=True)
    if memory() > ROOM:  # thousands of files, gone in the end: some disks take minutes for that
        run("mount", "-t", "tmpfs", "-o", f"size={ROOM // 2},mode=0755", "cvk", state)
    for folder in ("log", "pids"):
        (state / folder).mkdir(parents=True)
    make_pki(state)
    make_networks()
    start_control(state, binaries)
    for node in range(1, NODES + 1):
        start_node(state, binaries, node, images)
    until(f"{NODES} nodes", lambda: ready_nodes(state) == NODES)
    start(
        state, "standins", "", sys.executable, HERE / "standins.py", state, HOST, KUBECONFIG=str(state / "admin.conf")
    )
    until("the cluster's DNS", lambda: listens(HOST))


def last_words(state):
    """Print the last lines of each process's log: they are gone with the folder."""
    for log in sorted((state / "log").glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()[-5:]
        print(f"{log.name}:", *(line[:300] for line in lines), sep="\n  ", file=sys.stderr)


def memory():
    """Return the bytes of memory that are free."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))


def listens(host):
    """Return whether the stand-in for the cluster's DNS answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1)
        try:
            sock.connect((host, 53))
            sock.send(b"\0\1\1\0\0\1\0\0\0\0\0\0\4none\0\0\1\0\1")
            return bool(sock.recv(512))
        except OSError:
            return False


def down(state):
    """End every process, and remove networks, cgroups and the folder. What is not there is no trouble."""
    for file in sorted((state / "pids").glob("*")) if (state / "pids").is_dir() else ():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(file.read_text()), signal.SIGKILL)
    end(inhabited())  # of a cluster whose folder is gone
    for node in range(NODES + 1):
        subprocess.run(["ip", "netns", "del", f"cvk{node}"], capture_output=True, check=False)
        subprocess.run(
            ["ip", "link", "del", f"vcvk{node}"], capture_output=True, check=False
        )  # the kernel takes its time
    subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True, check=False)
    groups = [group for node in range(1, NODES + 1) for group in Path("/sys/fs/cgroup").glob(f"*/cvk{node}")]
    until("the end of every process", lambda: not any(tasks(group) for group in groups))
    for group in groups:
        for folder, _, _ in os.walk(group, topdown=False):
            os.rmdir(folder)
    for line in Path("/proc/mounts").read_text().splitlines():
        if line.startswith("cvk "):
            run("umount", line.split()[1])
    if state.is_dir():
        shutil.rmtree(state)


def inhabited():
    """Return the processes in the networks of a cluster, this one or another."""
    spaces = [f"cvk{node}" for node in range(NODES + 1) if Path(f"/run/netns/cvk{node}").exists()]
    return [int(word) for space in spaces for word in run("ip", "netns", "pids", space).split()]


def tasks(group):
    """Return the processes that are in a cgroup or below it, and end them: a container's may outlive its node."""
    numbers = [int(line) for file in group.rglob("cgroup.procs") for line in file.read_text().split()]
    end(numbers)
    return numbers


def end(numbers):
    for number in numbers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


if __name__ == "__main__":
    what, folder, *archives = sys.argv[1:]
    up(Path(folder).resolve(), archives) if what == "up" else down(Path(folder).resolve())
