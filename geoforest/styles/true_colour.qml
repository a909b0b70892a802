<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22.0" styleCategories="Symbology|Rendering" hasScaleBasedVisibilityFlag="0">
  <pipe>
    <rasterrenderer type="multibandcolor" redBand="1" greenBand="2" blueBand="3" alphaBand="-1" opacity="1" nodataColor="">
      <rasterTransparency/>
      <minMaxOrigin><limits>None</limits></minMaxOrigin>
      <redContrastEnhancement><minValue>$low</minValue><maxValue>$high</maxValue><algorithm>StretchToMinimumMaximum</algorithm></redContrastEnhancement>
      <greenContrastEnhancement><minValue>$low</minValue><maxValue>$high</maxValue><algorithm>StretchToMinimumMaximum</algorithm></greenContrastEnhancement>
      <blueContrastEnhancement><minValue>$low</minValue><maxValue>$high</maxValue><algorithm>StretchToMinimumMaximum</algorithm></blueContrastEnhancement>
    </rasterrenderer>
    <!-- As the pictures of the reports: a gamma for dark forest. -->
    <brightnesscontrast brightness="0" contrast="0" gamma="1.6"/>
    <huesaturation saturation="0" grayscaleMode="0" colorizeOn="0" invertColors="0"/>
    <!-- Pixels stay squares: one of them is to be judged. -->
    <rasterresampler maxOversampling="2" zoomedOutResampler="bilinear"/>
    <resamplingStage>resamplingFilter</resamplingStage>
  </pipe>
  <blendMode>0</blendMode>
</qgis>
