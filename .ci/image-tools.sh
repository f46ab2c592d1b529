# shellcheck shell=bash
# Sourced by .ci/image and .ci/cluster: what building the image takes on a machine that has neither a container engine
# nor an image registry, but Debian's packages. As root, with Debian's podman, on a base image that is made of Debian's
# packages too. It stands in for the Dockerfile's own base, which is therefore not tested by either.

SUITE=trixie  # the suite of the Dockerfile's base
BASE=localhost/python-base:$SUITE

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

install_tools() {
  local tools=(mmdebstrap podman runc)
  if dpkg --status "${tools[@]}" >/dev/null 2>&1; then return; fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "${tools[@]}" >/dev/null
}

# For a machine without systemd, whose own limits are lower than those that podman would set.
configure_podman() {
  cat >"$work/containers.conf" <<'CONF'
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
  export CONTAINERS_CONF="$work/containers.conf" BUILDAH_ISOLATION=chroot
}

build_base() {
  if podman image exists "$BASE"; then return; fi
  local mirror
  # shellcheck disable=SC2016  # apt's own variable
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Label: Debian' | sed -n 1p)
  mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates "$SUITE" "$work/root.tar" "$mirror"
  printf '%s\n' 'FROM scratch' 'ADD root.tar /' >"$work/Dockerfile"
  podman build --quiet --tag "$BASE" "$work" >/dev/null
}

# pip's settings here, from its files and from the environment, as one file. Folders of this machine are left out.
write_pip_conf() {
  python3 -m pip config list | python3 -c '
import ast, sys
settings = dict(line.rstrip().split("=", 1) for line in sys.stdin)
print("[global]")
for name, value in {key.rpartition(".")[2]: ast.literal_eval(value) for key, value in settings.items()}.items():
    if name != "find-links":
        print(name, "=", value.replace("\n", "\n  "))
' >"$work/pip.conf"
}

# make a target that builds the image
make_with_image() {
  install_tools
  configure_podman
  build_base
  write_pip_conf
  local ca=/etc/ssl/certs/ca-certificates.crt  # in the base as well, so that mounting it leaves nothing behind
  make "$@" BASE_IMAGE="$BASE" BUILD_FLAGS="--quiet --secret id=pip.conf,src=$work/pip.conf --volume $ca:$ca:ro"
}
