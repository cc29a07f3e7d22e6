// Package chart tests what deploy/ holds without a cluster: the Helm chart, the kustomize bases and the image's recipe.
package chart
