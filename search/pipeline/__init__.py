"""The main job: stages that leave files, and what runs those that are missing."""
