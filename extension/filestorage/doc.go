// Package filestorage is contrib's file_storage extension for disks that fail: a database that is damaged is set aside instead of
// ending the collector, and where the disk is full the collector starts with what is stored.
package filestorage
