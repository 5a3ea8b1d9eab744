package kubernetes

import (
	"fmt"
	"maps"
	"path"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/glassrunner/glassrunner/internal/executor"
)

// volumes of a pod, with where every container has them.
type volumes struct {
	list   []corev1.Volume
	mounts []corev1.VolumeMount
}

func (v *volumes) add(source corev1.VolumeSource, m corev1.VolumeMount) {
	if !slices.ContainsFunc(v.list, func(l corev1.Volume) bool { return l.Name == m.Name }) {
		v.list = append(v.list, corev1.Volume{Name: m.Name, VolumeSource: source})
	}
	v.mounts = append(v.mounts, m)
}

// mount fills in a mount of the configuration.
func (p *place) mount(name, at, sub string, readOnly bool, propagation string) corev1.VolumeMount {
	m := corev1.VolumeMount{Name: p.expand(name), MountPath: p.expand(at), SubPath: p.expand(sub), ReadOnly: readOnly}
	if propagation != "" {
		mode := corev1.MountPropagationMode(propagation)
		m.MountPropagation = &mode
	}
	return m
}

// planVolumes reads the volumes of the configuration and adds our own: for the
// sources, unless one is mounted there, for scripts and for logs.
func (p *place) planVolumes() (*volumes, error) {
	v := &volumes{}
	if c := p.c.Volumes; c != nil {
		for _, h := range c.HostPath {
			m := p.mount(h.Name, h.MountPath, h.SubPath, h.ReadOnly, h.MountPropagation)
			from := p.expand(h.HostPath)
			if from == "" {
				from = m.MountPath
			}
			v.add(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: from}}, m)
		}
		for _, c := range c.PVC {
			m := p.mount(c.Name, c.MountPath, c.SubPath, c.ReadOnly, c.MountPropagation)
			v.add(corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: m.Name, ReadOnly: c.ReadOnly}}, m)
		}
		for _, c := range c.ConfigMap {
			m := p.mount(c.Name, c.MountPath, c.SubPath, c.ReadOnly, "")
			v.add(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: m.Name}, Items: items(c.Items),
			}}, m)
		}
		for _, c := range c.Secret {
			m := p.mount(c.Name, c.MountPath, c.SubPath, c.ReadOnly, "")
			v.add(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: m.Name, Items: items(c.Items)}}, m)
		}
		for _, c := range c.EmptyDir {
			m := p.mount(c.Name, c.MountPath, c.SubPath, false, c.MountPropagation)
			e := &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMedium(c.Medium)}
			if c.SizeLimit != "" {
				q, err := resource.ParseQuantity(c.SizeLimit)
				if err != nil {
					return nil, executor.Misconfigured("size_limit of the volume %q: %w", m.Name, err)
				}
				e.SizeLimit = &q
			}
			v.add(corev1.VolumeSource{EmptyDir: e}, m)
		}
		for _, c := range c.CSI {
			m := p.mount(c.Name, c.MountPath, c.SubPath, c.ReadOnly, "")
			s := &corev1.CSIVolumeSource{Driver: c.Driver, VolumeAttributes: c.VolumeAttributes}
			if c.FSType != "" {
				s.FSType = &c.FSType
			}
			if c.ReadOnly {
				s.ReadOnly = &c.ReadOnly
			}
			v.add(corev1.VolumeSource{CSI: s}, m)
		}
		for _, c := range c.NFS {
			m := p.mount(c.Name, c.MountPath, c.SubPath, c.ReadOnly, "")
			v.add(corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: c.Server, Path: c.Path, ReadOnly: c.ReadOnly}}, m)
		}
	}
	empty := corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}
	if !slices.ContainsFunc(v.mounts, func(m corev1.VolumeMount) bool { return path.Clean(m.MountPath) == p.d.o.BuildsDir }) {
		v.add(empty, corev1.VolumeMount{Name: "repo", MountPath: p.d.o.BuildsDir})
	}
	v.add(empty, corev1.VolumeMount{Name: "scripts", MountPath: p.scripts})
	v.add(empty, corev1.VolumeMount{Name: "logs", MountPath: p.logs})
	return v, nil
}

func items(m map[string]string) []corev1.KeyToPath {
	var out []corev1.KeyToPath
	for _, key := range slices.Sorted(maps.Keys(m)) {
		out = append(out, corev1.KeyToPath{Key: key, Path: m[key]})
	}
	return out
}

// ownDir is a directory of this job below a base of the configuration.
func (p *place) ownDir(base, kind string) string {
	return path.Join("/", base, fmt.Sprintf("%s-%d-%d", kind, p.r.Spec.Info.ProjectID, p.r.Spec.ID))
}
