{{/* Names, labels and pod parts that more than one template needs, so that what makes a thing and what finds it agree. */}}

{{- define "shardwise.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough for the longest ending, -metrics, and for the hash of a pod's name. */}}
{{- define "shardwise.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "shardwise.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "shardwise.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Outside of namespaces two releases of one name must not meet. */}}
{{- define "shardwise.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "shardwise.fullname" .) -}}
{{- end -}}

{{- define "shardwise.commonLabels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/name: {{ include "shardwise.name" . }}
app.kubernetes.io/part-of: shardwise
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- end -}}

{{/* Of (dict "root" $ "component" "operator"): what never changes, for selectors. */}}
{{- define "shardwise.selector" -}}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/name: {{ include "shardwise.name" .root }}
{{- end -}}

{{- define "shardwise.labels" -}}
app.kubernetes.io/component: {{ .component }}
{{ include "shardwise.commonLabels" .root }}
{{- end -}}

{{/* Of (dict "root" $ "of" "operator"): the image of that part, by digest or by tag. */}}
{{- define "shardwise.image" -}}
{{- $image := (get .root.Values .of).image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else if eq $image.tag "latest" -}}
{{- fail (printf "%s.image.tag: latest doesn't say what runs; name a version" .of) -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default .root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "shardwise.serviceAccountName" -}}
{{- if .Values.serviceAccount.name -}}
{{- .Values.serviceAccount.name -}}
{{- else if .Values.serviceAccount.create -}}
{{- printf "%s-operator" (include "shardwise.fullname" .) -}}
{{- else -}}
{{- fail "serviceAccount.name: needed, because serviceAccount.create is false" -}}
{{- end -}}
{{- end -}}

{{- define "shardwise.lease" -}}
{{- printf "%s-operator" (include "shardwise.fullname" .) -}}
{{- end -}}

{{- define "shardwise.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "shardwise.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Of (dict "values" .Values.operator): where a pod may go. */}}
{{- define "shardwise.placement" -}}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "shardwise.imagePullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Not empty where the KATO server's store is an SQLite file. */}}
{{- define "shardwise.katoOnDisk" -}}
{{- with .Values.katoServer.store -}}
{{- if and (not .secretRef.name) (hasPrefix "sqlite:" .uri) -}}yes{{- end -}}
{{- end -}}
{{- end -}}

{{/* Names are asked for at whatever address: clusters have DNS in pods, on nodes and at link-local addresses. */}}
{{- define "shardwise.toDNS" -}}
- ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
{{- end -}}

{{/* Of all workers, as JSON: what each run needs of this release, and what the values say. */}}
{{- define "shardwise.workersEgress" -}}
{{- $rules := include "shardwise.toDNS" . | fromYamlArray -}}
{{- $ports := dict "operator" 8090 -}}
{{- if .Values.katoServer.enabled -}}
{{- $_ := set $ports "kato" 8000 -}}
{{- end -}}
{{- range $component, $port := $ports -}}
{{- $pods := include "shardwise.selector" (dict "root" $ "component" $component) | fromYaml -}}
{{- $here := dict "kubernetes.io/metadata.name" $.Release.Namespace -}}
{{- $peer := dict "namespaceSelector" (dict "matchLabels" $here) "podSelector" (dict "matchLabels" $pods) -}}
{{- $rules = append $rules (dict "to" (list $peer) "ports" (list (dict "port" $port))) -}}
{{- end -}}
{{- concat $rules .Values.networkPolicy.egress.workers.rules | toJson -}}
{{- end -}}

{{/* Pods that the operator made for runs, in whatever namespace. */}}
{{- define "shardwise.workers" -}}
- namespaceSelector: {}
  podSelector:
    matchLabels:
      app.kubernetes.io/managed-by: shardwise
{{- end -}}
