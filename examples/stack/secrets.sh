#!/usr/bin/env bash
# Makes the stack's Secrets with passwords of this cluster's own. One that is there stays: databases keep the password
# of their first start. NAMESPACE says where, if not in shardwise-stack.
set -euo pipefail
namespace=${NAMESPACE:-shardwise-stack}

# The password goes by standard input: arguments can be read by every user of a machine.
secret() { # NAME URI, with PASSWORD in the URI's place for it
  local name=$1 uri=$2 password
  if kubectl --namespace "$namespace" get secret "$name" --output=name >/dev/null 2>&1; then
    echo "secret/$name is there and stays"
    return
  fi
  password=$(head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n')
  kubectl --namespace "$namespace" create --filename=- <<YAML
apiVersion: v1
kind: Secret
metadata:
  name: $name
  labels:
    app.kubernetes.io/part-of: shardwise-stack
stringData:
  password: "$password"
  uri: "${uri/PASSWORD/$password}"
YAML
}

secret mongodb "mongodb://root:PASSWORD@mongodb.$namespace.svc:27017/?authSource=admin"
secret postgresql "postgresql://shardwise:PASSWORD@postgresql.$namespace.svc:5432/shardwise"
