#!/usr/bin/env bash
# Debian packages for the targets that need one: installs them (root and apt), or names exactly what is missing.
#
#   tools/system_packages.sh wrk ...
#
# Prints what it does; asks first on a terminal, never in CI (CI=true) or where nobody can answer.
set -euo pipefail

missing=()
for package in "$@"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' && continue
  # Not from apt, or no Debian at all: a command of that name on the path is as good.
  command -v "$package" >/dev/null && continue
  missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "missing system packages: ${missing[*]}" >&2
  echo "install them (Debian, Ubuntu: sudo apt-get install ${missing[*]}) and run make again" >&2
  exit 1
fi

echo "system packages needed: ${missing[*]}; will run: apt-get install -y --no-install-recommends ${missing[*]}"
if [ "${CI:-}" != true ] && [ -t 0 ] && [ -t 1 ]; then
  read -r -p "go on? [Y/n] " answer
  case ${answer:-y} in [Yy]*) ;; *) echo "left as it was" >&2; exit 1 ;; esac
fi
export DEBIAN_FRONTEND=noninteractive
apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 || {
  apt-get update -q >/dev/null
  apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null
}
