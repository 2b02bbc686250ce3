# What a person would look at first.
set +e
kubectl get nodes,pods,daemonsets,deployments,jobs --all-namespaces --output wide
kubectl get events --all-namespaces --sort-by .metadata.creationTimestamp | tail -60
for pod in $(kubectl get pods --all-namespaces --output jsonpath='{range .items[*]}{.metadata.namespace}/{.metadata.name} {end}'); do
    case $pod in */load-*) continue ;; esac
    echo "==> $pod"
    kubectl --namespace "${pod%/*}" logs --all-containers --tail 40 "${pod#*/}" 2>&1
    kubectl --namespace "${pod%/*}" logs --all-containers --tail 20 --previous "${pod#*/}" 2>/dev/null
done
true
