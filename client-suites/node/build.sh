#!/usr/bin/env bash
# Builds the addon of the npm package `pulsar-client` from the sources in that package, against the C++ library in the Python
# package `pulsar-client`: the prebuilt addon is no part of the npm package, and installing it would download it elsewhere.
# Usage: build.sh TARGET PYTHON, with the Python package installed for PYTHON.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=$1
python=$2

mkdir -p "$target"
cp "$here/package.json" "$here/package-lock.json" "$target"
cd "$target"
npm ci --silent --no-audit --no-fund --ignore-scripts

library=$("$python" - <<'PYTHON'
import glob, os, _pulsar
print(glob.glob(os.path.join(os.path.dirname(_pulsar.__file__), "pulsar_client.libs", "libpulsar-*.so"))[0])
PYTHON
)

# The addon includes the interface by its parts; ours is one file.
rm -rf include
mkdir -p include/pulsar/c
cp "$here/include/pulsar/c.h" include/pulsar/
for part in authentication client client_configuration consumer consumer_configuration message message_id message_router \
    messages producer producer_configuration reader reader_configuration result string_list string_map; do
    echo '#include <pulsar/c.h>' > "include/pulsar/c/$part.h"
done

package=node_modules/pulsar-client
mkdir -p "$package/lib/binding" objects
sources=("$package"/src/*.cc)
printf '%s\n' "${sources[@]}" | xargs -P "$(nproc)" -I{} sh -c '
    g++ -std=gnu++17 -O1 -fPIC -fvisibility=hidden -fexceptions -w -DNAPI_VERSION=4 -DNAPI_CPP_EXCEPTIONS \
        -Iinclude -Inode_modules/node-api-headers/include -Inode_modules/node-addon-api \
        -c "$1" -o "objects/$(basename "$1" .cc).o"' sh {}
g++ -shared -o "$package/lib/binding/pulsar.node" objects/*.o "$library" "-Wl,-rpath,$(dirname "$library")"
# What the package's own install script does last.
(cd "$package" && node GenCertFile.js)
NODE_PATH=node_modules node -e "require('pulsar-client').Client"
